#!/usr/bin/env bash
# Fuzzes what the client makes of a server's bytes: ./fuzz.sh [EXECUTIONS [FOLDER]]. Needs clang. New inputs and a
# crash stay in FOLDER; a crash that is fixed becomes a seed with a name in corpus/.
set -euo pipefail
cd "$(dirname "$0")"
executions=${1:-1000000}
folder=${2:-$(mktemp -d)}
if ! command -v clang >/dev/null; then
    (apt-get update -qq && apt-get install -y -qq clang) >/dev/null || { echo "fuzz.sh: install clang" >&2; exit 1; }
fi
mkdir -p "$folder/corpus"
# Coverage is the client's, not fuzz.c's; the dictionary does what tracing comparisons would, at a third of the time.
echo 'src:*fuzz.c' >"$folder/ignore"
clang -std=c99 -Wall -Wextra -Wpedantic -Werror -O2 -g -fsanitize=fuzzer,address,undefined \
    -fsanitize-coverage-ignorelist="$folder/ignore" -fno-sanitize-coverage=trace-cmp -fno-sanitize-recover=all \
    -o "$folder/fuzz" fuzz.c fleet_sensor.c
echo "fuzz.sh: in $folder"
"$folder/fuzz" -runs="$executions" -max_len=640 -dict=fuzz.dict -artifact_prefix="$folder/" -print_final_stats=1 \
    "$folder/corpus" corpus
