#!/usr/bin/env bash
# What the client takes on a Cortex-M0+ and an M4, in bytes, and whether that is within 4 KiB of code and
# 1 KiB of RAM with a ring of 32 positions, and that it needs of others only what <string.h> has: no heap, no
# division. Compiled with gcc-arm-none-eabi and newlib's headers, which it installs on Debian as root.
set -euo pipefail
shopt -s inherit_errexit
cd "$(dirname "$0")"
gcc=arm-none-eabi-gcc
if ! echo '#include <string.h>' | $gcc -E - >/dev/null 2>&1; then
    packages="gcc-arm-none-eabi libnewlib-arm-none-eabi"
    # shellcheck disable=SC2086
    (apt-get update -qq && apt-get install -y -qq --no-install-recommends $packages) >/dev/null ||
        { echo "size.sh: install $packages" >&2; exit 1; }
fi
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

code() { # cpu, options
    $gcc -std=c99 -Wall -Wextra -Werror -Os -mthumb "-mcpu=$1" "${@:2}" -c fleet_sensor.c -o "$out/code.o"
    arm-none-eabi-size "$out/code.o" | awk 'NR == 2 { print $1 + $2 }'
}

ram() { # cpu, signal, options: the struct with its ring
    printf '#include "fleet_sensor.h"\nchar ram[sizeof(fleet_sensor) + FLEET_RING(32, %s)];\n' "$2" |
        $gcc -I. -std=c99 -Os -mthumb "-mcpu=$1" "${@:3}" -x c -c - -o "$out/ram.o"
    arm-none-eabi-nm -S -t d "$out/ram.o" | awk '{ print $2 + 0 }'
}

printf '%-12s %-38s %6s %12s %15s\n' cpu with code 'RAM, speed' 'RAM, position'
for cpu in cortex-m0plus cortex-m4; do
    for options in "-DFLEET_AUTH_NKEY=0 -DFLEET_MSG_ID=0" "-DFLEET_AUTH_NKEY=0" ""; do
        name="password, token"
        [[ $options == *MSG_ID=0* ]] || name+=", message ids"
        [[ $options == *NKEY=0* ]] || name+=", nkeys"
        # shellcheck disable=SC2086
        c=$(code $cpu $options) speed=$(ram $cpu FLEET_SPEED $options) position=$(ram $cpu FLEET_POSITION $options)
        printf '%-12s %-38s %6d %12d %15d\n' $cpu "$name" "$c" "$speed" "$position"
    done
done
c=$(code cortex-m0plus -DFLEET_AUTH_NKEY=0)
needs=$(arm-none-eabi-nm -u "$out/code.o" | awk '{ print $2 }' | sort | xargs)
r=$(ram cortex-m0plus FLEET_POSITION -DFLEET_AUTH_NKEY=0)
echo "needs $needs"
cc -std=c99 -Os -DFLEET_AUTH_NKEY=0 -c fleet_sensor.c -o "$out/code.o"
echo "code on $(uname -m), with message ids: $(size "$out/code.o" | awk 'NR == 2 { print $1 + $2 }')"
[ "$needs" = "memcmp memcpy memmove memset strcmp strlen" ] || { echo "size.sh: it needs more than it should" >&2; exit 1; }
[ "$c" -le 4096 ] && [ "$r" -le 1024 ] || { echo "size.sh: $c bytes of code or $r of RAM are too many" >&2; exit 1; }
