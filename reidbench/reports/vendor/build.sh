#!/bin/sh
# Rebuild vega.js and LICENSES.txt in this folder, from the versions in package.json; needs node and npm.
set -e
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp "$here/package.json" "$here/entry.js" "$here/licenses.js" "$work"
cd "$work"
npm install --no-package-lock --no-audit --no-fund
npx esbuild entry.js --bundle --minify --format=iife --global-name=vega --legal-comments=none --target=es2020 \
  --outfile=vega.js
node licenses.js > LICENSES.txt
cp vega.js LICENSES.txt "$here"
sha256sum vega.js
