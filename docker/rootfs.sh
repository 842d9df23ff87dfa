#!/bin/sh
# Makes the root folder of the image: rootfs.sh PROGRAM FOLDER [SYSROOT]
#
# The program, the libraries that it is linked with, the certificates of the well-known authorities, and a user. No
# shell, no package manager: what is not there need not be mended. With SYSROOT the program may be one for another
# machine, with its libraries in that folder.
set -eu

program=$1
root=$2
sysroot=${3:-}
user=65532

# "libx.so => /path/libx.so (0x…)" and the loader, which stands alone: each under the name by which it is looked for.
linked() {
  ldd "$1" | sed -n 's/^.* => \(\/[^ ]*\) .*$/\1/p; s/^\t\(\/[^ ]*\) .*$/\1/p'
}

# The same without running anything: what the file itself names, and each of those. $seen ends that.
seen=' '
linked_below() {
  for name in $(readelf --dynamic --program-headers --wide "$1" |
    sed -n 's/^.*(NEEDED).*\[\(.*\)\]$/\1/p; s/^.*program interpreter: \(.*\)\]$/\1/p'); do
    case $seen in *" ${name##*/} "*) continue ;; esac
    seen="$seen${name##*/} "
    case $name in
      /*) library=$sysroot$name ;;
      *) library=$(find "$sysroot"/lib/*-linux-gnu* "$sysroot"/usr/lib/*-linux-gnu* -maxdepth 1 -name "$name" 2>/dev/null | head -n 1) ;;
    esac
    [ -e "$library" ] || {
      echo "$program needs $name, which is not in $sysroot" >&2
      return 1
    }
    echo "${library#"$sysroot"}"
    linked_below "$library" || return 1
  done
}

mkdir -p "$root/usr/bin" "$root/etc/ssl/certs" "$root/etc/sluice" "$root/var/lib" "$root/tmp"
cp "$program" "$root/usr/bin/sluice"
if [ -n "$sysroot" ]; then
  libraries=$(linked_below "$program")
  # The system's own knows only its own machine.
  llvm-strip-19 "$root/usr/bin/sluice"
else
  libraries=$(linked "$program")
  strip "$root/usr/bin/sluice"
fi
for library in $libraries; do
  mkdir -p "$root$(dirname "$library")"
  cp -L "$sysroot$library" "$root$library"
done

cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/ca-certificates.crt"
echo "sluice:x:$user:$user:sluice:/var/lib/sluice:/usr/sbin/nologin" >"$root/etc/passwd"
echo "sluice:x:$user:" >"$root/etc/group"
echo "hosts: files dns" >"$root/etc/nsswitch.conf"
chmod 1777 "$root/tmp"
