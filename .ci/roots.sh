# shellcheck shell=bash
# Root folders made by debootstrap: a place where a Python this machine does not have can be installed, with
# its debug build and test suite, and nothing of the machine itself changes. Sourced, not run.
#
#   root_for VERSION      prints the folder of a root that holds python VERSION (3.13, 3.14, ...), made at need
#   root_bare             the same, with nothing in it yet but the system's python3-dev, python3-venv and g++
#   enter_root ROOT CMD   runs CMD inside ROOT, with the checkout, /tmp and pip's configuration visible
#
# Roots live outside the checkout in $MEMCHANNEL_CACHE and stay there between runs, downloads as well.

CACHE=${MEMCHANNEL_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/memchannel}
ROOT_MAX_AGE_DAYS=${MEMCHANNEL_ROOT_MAX_AGE_DAYS:-30}
# Newest first: sid carries the newest patch releases, testing and stable what sid dropped or lacks for a while.
SUITES=${MEMCHANNEL_SUITES:-sid testing stable}

say() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }
die() { say "error: $*"; exit 1; }

# The main archive that apt itself uses, so that nothing about the network is written into the project.
debian_mirror() {
    if [ -n "${MEMCHANNEL_MIRROR:-}" ]; then echo "$MEMCHANNEL_MIRROR"; return; fi
    local codename
    codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
    # shellcheck disable=SC2016 # the dollars are for apt
    apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' |
        awk -v suite="$codename" '$2 == suite && $3 == "main" { print $1; exit }'
}

require_root_tools() {
    [ "$(id -u)" = 0 ] || die "debootstrap and chroot need root; run this as root"
    command -v apt-get >/dev/null || die "a Debian system is needed: apt-get was not found"
    command -v unshare >/dev/null || die "unshare was not found; apt-get install util-linux"
    if ! command -v debootstrap >/dev/null; then
        say "installing debootstrap"
        { apt-get update && apt-get install -y debootstrap; } >&2 || die "apt-get could not install debootstrap"
    fi
}

# make_root DIR SUITE PACKAGES: into a folder beside DIR, renamed when complete, so that a root that exists
# is a whole one.
make_root() {
    local dir=$1 suite=$2 packages=$3 mirror log
    mirror=$(debian_mirror)
    [ -n "$mirror" ] || die "apt knows no Debian archive for this system; name one in MEMCHANNEL_MIRROR"
    log=$CACHE/roots/$(basename "$dir").log
    rm -rf "$dir.new"
    mkdir -p "$CACHE/debs"
    say "making $dir from $suite (log: $log)"
    if ! debootstrap --variant=minbase --cache-dir="$CACHE/debs" --include="$packages" \
        "$suite" "$dir.new" "$mirror" >"$log" 2>&1 </dev/null; then
        say "$suite: $(grep -E '^[EW]: ' "$log" | tail -n 1)"
        rm -rf "$dir.new"
        return 1
    fi
    echo "$suite $packages" >"$dir.new/.memchannel-root"
    rm -rf "$dir"
    mv "$dir.new" "$dir"
}

# root_ready DIR PACKAGES CHECK...: a root made with these packages, in which CHECK runs.
root_ready() {
    local dir=$1 packages=$2
    shift 2
    [ -f "$dir/.memchannel-root" ] || return 1
    [ "$(cut -d' ' -f2 "$dir/.memchannel-root")" = "$packages" ] || return 1
    chroot "$dir" "$@" >/dev/null 2>&1 </dev/null || { say "$dir is broken"; return 1; }
}

root_expired() {
    [ -n "$(find "$1/.memchannel-root" -mtime "+$ROOT_MAX_AGE_DAYS")" ]
}

# ensure_root NAME PACKAGES SUITES CHECK...: prints the folder. An old root is made anew, since sid moves,
# and kept if that fails.
ensure_root() {
    local dir=$CACHE/roots/$1 packages=$2 suites=$3 suite
    shift 3
    require_root_tools
    mkdir -p "$CACHE/roots"
    if root_ready "$dir" "$packages" "$@" && ! root_expired "$dir"; then echo "$dir" && return; fi
    (
        flock 9 # waits for whoever makes it or works in it
        if root_ready "$dir" "$packages" "$@" && ! root_expired "$dir"; then exit 0; fi
        for suite in $suites; do
            make_root "$dir" "$suite" "$packages" && root_ready "$dir" "$packages" "$@" && exit 0
        done
        root_ready "$dir" "$packages" "$@" && say "keeping the old $dir" && exit 0
        die "no root with $packages could be made from any of: $suites"
    ) 9>"$dir.lock" || return 1
    echo "$dir"
}

root_for() {
    local v=$1
    ensure_root "python$v" \
        "python$v-dev,python$v-venv,python$v-dbg,libpython$v-testsuite,g++,gdb,ca-certificates" "$SUITES" \
        "python$v-dbg" -c 'import ensurepip, sys, test.support, venv; sys.gettotalrefcount()'
}

root_bare() {
    ensure_root bare "python3-dev,python3-venv,g++" "stable testing sid" \
        python3 -c 'import ensurepip, sys, venv; assert sys.version_info >= (3, 13)'
}

# Files and folders that pip's configuration and environment name: they have to exist inside a root too.
pip_paths() {
    {
        python3 -m pip config debug 2>/dev/null | sed -n 's/^ *\(.*\), exists: True$/\1/p'
        python3 -m pip config list 2>/dev/null
        env | grep '^PIP_'
    } | grep -oE "(^|[ '\"=]|file://)/[^ '\",]+" | sed -E "s#^[^/]*(//)?/#/#" | sort -u | while read -r path; do
        if [ -e "$path" ]; then echo "$path"; fi
    done
}

# enter_root ROOT CMD...: mounts exist in a private namespace only and are gone when CMD ends, whatever way.
enter_root() {
    local root=$1
    shift
    export MEMCHANNEL_CACHE=$CACHE PIP_CACHE_DIR=$CACHE/pip
    mkdir -p "$CACHE/pip"
    flock --shared "$root.lock" unshare --mount --propagation private bash "$CHECKOUT/.ci/mount-and-run" "$root" "$CHECKOUT" "$CACHE/pip" \
        "$(pip_paths)" "$@"
}
