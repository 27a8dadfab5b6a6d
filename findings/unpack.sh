# Unpacks a package of Debian's, and all that it needs, into a folder. Sourced by the scripts here.
#
#   unpack SUITES PACKAGE=VERSION FOLDER     SUITES: "trixie", or "trixie trixie-backports"
#   in_it FOLDER COMMAND…                    runs a command that sees FOLDER's /proc and /dev mounted
#
# Needs root. The mirror is the one that this system uses. Nothing of this system is changed.
cannot() { echo "not tried: $1" >&2; exit 2; }
[ "$(id -u)" = 0 ] || cannot 'it needs root'
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT

private() {
  apt-get -qq -o Dir::Etc::SourceList="$APT/sources.list" -o Dir::Etc::SourceParts="$APT/parts" \
    -o Dir::State::Lists="$APT/lists" -o Dir::State::Status="$APT/status" \
    -o Dir::Cache="$APT" -o Dir::Cache::Archives="$APT/archives" -o APT::Sandbox::User=root \
    -o Debug::NoLocking=true "$@"
}

unpack() {
  MIRROR=$(apt-get indextargets --format '$(SITE)' | sed -n 1p)
  KEYS=/usr/share/keyrings/debian-archive-keyring.gpg
  APT="$3.apt"
  mkdir -p "$APT/lists/partial" "$APT/archives/partial" "$APT/parts" "$3/proc" "$3/dev"
  : > "$APT/status"
  for suite in $1; do
    echo "deb [signed-by=$KEYS] $MIRROR $suite main"
  done > "$APT/sources.list"
  private update || cannot "no package lists of $1"
  # The last suite is preferred: a version of backports needs libraries of backports.
  private --yes --no-install-recommends --download-only --target-release "${1##* }" \
    install "$2" > /dev/null || cannot "$2 is not to be had"
  for package in "$APT"/archives/*.deb; do dpkg-deb -x "$package" "$3"; done
  for folder in bin lib lib64 sbin; do
    [ -e "$3/$folder" ] || ln -s "usr/$folder" "$3/$folder" # made by a package that is not needed
  done
  rm -rf "$APT"
}

in_it() {
  # A mount namespace of its own: the mounts are gone with the command. QEMU finds its modules by
  # /proc/self/exe.
  unshare --mount --propagation private sh -euc \
    'mount -t proc proc "$1/proc"; mount --rbind /dev "$1/dev"; shift; exec "$@"' sh "$@"
}
