#!/bin/sh
# Makes the root folder of the image: rootfs.sh PROGRAM FOLDER
#
# The program, the libraries that it is linked with, the certificates of the well-known authorities, and a user. No
# shell, no package manager: what is not there need not be mended.
set -eu

program=$1
root=$2
user=65532

mkdir -p "$root/usr/bin" "$root/etc/ssl/certs" "$root/etc/sluice" "$root/var/lib" "$root/tmp"
cp "$program" "$root/usr/bin/sluice"
strip "$root/usr/bin/sluice"

# "libx.so => /path/libx.so (0x…)" and the loader, which stands alone: each under the name by which it is looked for.
ldd "$program" | sed -n 's/^.* => \(\/[^ ]*\) .*$/\1/p; s/^\t\(\/[^ ]*\) .*$/\1/p' | while read -r library; do
  mkdir -p "$root$(dirname "$library")"
  cp -L "$library" "$root$library"
done

cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/ca-certificates.crt"
echo "sluice:x:$user:$user:sluice:/var/lib/sluice:/usr/sbin/nologin" >"$root/etc/passwd"
echo "sluice:x:$user:" >"$root/etc/group"
echo "hosts: files dns" >"$root/etc/nsswitch.conf"
chmod 1777 "$root/tmp"
