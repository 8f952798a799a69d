#!/bin/bash
# Builds the stand-in driver and the programs that test it into FOLDER:
# WinDivert64.sys, wdnet.dll, rig.exe, talk.exe and names.exe, and the last two for 32
# bits as talk32.exe and names32.exe. Usage: build.sh FOLDER
set -euo pipefail
[[ $# == 1 ]] || { echo "usage: $0 FOLDER" >&2; exit 2; }
mkdir -p "$1"
out=$(cd "$1" && pwd)
cd "$(dirname "$0")"
cc=${MINGW_CC:-x86_64-w64-mingw32-gcc}
cc32=${MINGW_CC32:-i686-w64-mingw32-gcc}
for each in "$cc" "$cc32"; do
    command -v "$each" >/dev/null || { echo "$each is missing: the stand-in driver cannot be built" >&2; exit 1; }
done
flags=(-std=gnu11 -O2 -g0 -Wall -Wextra -Werror)
work=$(mktemp -d "$out/build.XXXXXX")
trap 'rm -rf "$work"' EXIT

# The helper is an ordinary DLL. The driver is not linked with -shared: Wine
# would take an image marked as a DLL for one, and call DriverEntry as DllMain.
"$cc" "${flags[@]}" -shared -static-libgcc -o "$work/wdnet.dll" \
    handle.c line.c link.c sockets.c table.c filter.c packet.c checksum.c misbehave.c \
    -Wl,--export-all-symbols,--out-implib,"$work/libwdnet.a" -Wl,--no-insert-timestamp -liphlpapi -lws2_32
# mingw's own DDK headers are not free of warnings; -isystem excuses them alone.
"$cc" "${flags[@]}" -isystem /usr/x86_64-w64-mingw32/include/ddk -c driver.c -o "$work/driver.o"
"$cc" -nostdlib -Wl,--subsystem,native -Wl,--entry,DriverEntry -Wl,--dynamicbase -Wl,--no-insert-timestamp \
    -o "$work/WinDivert64.sys" "$work/driver.o" -L"$work" -lwdnet -lntoskrnl

"$cc" "${flags[@]}" -o "$work/rig.exe" test/{rig,traffic,events,filters,divert}.c filter.c packet.c checksum.c -lws2_32
"$cc" "${flags[@]}" -o "$work/talk.exe" test/talk.c -lws2_32
"$cc32" "${flags[@]}" -static-libgcc -o "$work/talk32.exe" test/talk.c -lws2_32
"$cc" "${flags[@]}" -o "$work/names.exe" test/names.c -lws2_32 -liphlpapi
"$cc32" "${flags[@]}" -static-libgcc -o "$work/names32.exe" test/names.c -lws2_32 -liphlpapi
mv "$work"/{wdnet.dll,WinDivert64.sys,rig.exe,talk.exe,talk32.exe,names.exe,names32.exe} "$out/"
