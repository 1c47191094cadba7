"""Plugins' distributions as an installer leaves them."""

FEW = "backbones.tiny executors.local datasets.synthetic losses.triplet metrics.vectors recipes.quick reports.table"


def few_plugins(distribution):
    """Return the value of REIDBENCH_LOAD_PLUGINS that loads a distribution and what a run needs, to start sooner."""
    return ",".join([*(f"reidbench_{module}" for module in FEW.split()), distribution])


def install(folder, distribution, plugins):
    """Write a distribution of (entry point, code of its module); return the environment in which Python finds it."""
    info = folder / f"{distribution.replace('-', '_')}-1.0.dist-info"
    info.mkdir(parents=True, exist_ok=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
    lines = ["[reidbench]"]
    for name, code in plugins:
        module = f"{distribution}.{name.partition('.')[2] or name}".replace("-", "_").replace(".", "_")
        (folder / f"{module}.py").write_text(code)
        lines.append(f"{name} = {module}")
    (info / "entry_points.txt").write_text("\n".join(lines))
    return {"PYTHONPATH": str(folder)}
