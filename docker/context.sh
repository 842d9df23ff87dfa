#!/bin/sh
# Packs a program that is there already: context.sh PROGRAM FOLDER [SYSROOT], then docker build FOLDER
#
# FOLDER becomes the Dockerfile's last stage with what it copies: it runs nothing, so it is built in a second, of any
# machine's program on any machine. ./dev image does this with what it has compiled.
set -eu

here=$(dirname "$0")
program=$1
folder=$2
rm -rf "$folder/rootfs" "$folder/data" "$folder/Dockerfile"
mkdir -p "$folder/data"
"$here/rootfs.sh" "$program" "$folder/rootfs" ${3:+"$3"}
sed -n '/^FROM scratch/,$p' "$here/Dockerfile" | sed 's/--from=build //' >"$folder/Dockerfile"
