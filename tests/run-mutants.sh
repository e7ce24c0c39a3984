#!/usr/bin/env bash
# Plants each bug of tests/mutants/ alone and demands that the test that it names fails.
#
#   tests/with-postgres.sh tests/run-mutants.sh             all of them
#   tests/with-postgres.sh tests/run-mutants.sh key timer   those whose names have one of these in them
#
# A mutant is a patch with a head: the bug in one line, `test: CRATE NAME` of the test that must fail, and
# `says: PATTERN` of what it has to say then (an extended regular expression) where that matters. It counts
# as caught only where the program with the bug builds and the test runs to its end and fails by what it
# asserts. A patch that does not apply any more is an error.
#
# The bugs are planted in a copy of the tree under target/mutants/, which also has what is built of it;
# your tree is left alone. Writes the table of docs/MUTANTS.md to target/mutants/table.md.
set -euo pipefail
cd "$(dirname "$0")/.."

# Each story of the simulation is told from here on: a seed tells it always the same way.
readonly SEED_FIRST=1000
readonly SEEDS_MAX=1000
readonly SAID_CHARS_MAX=200
# Of nextest: tests failed.
readonly TESTS_FAILED=100

work=$PWD/target/mutants
tree=$work/tree
log=$work/log
table=$work/table.md
export CARGO_TARGET_DIR=$work/build

# Everything that git would take, as it stands now. Its times are new, so that nothing that was built of
# a bug passes for built of this.
copy_tree() {
    rm -rf "$tree"
    mkdir -p "$tree" "$log"
    git ls-files -z --cached --others --exclude-standard | while IFS= read -r -d '' file; do
        if [ -f "$file" ]; then printf '%s\0' "$file"; fi
    done | xargs -0 cp --parents -t "$tree"
    # Recorded orders lie beside the tree where they are at all.
    ln -sfn "$PWD/../shared" "$work/shared"
}

# Outside of any repository, as far as git can see: paths are those of the copy.
patch_tree() {
    GIT_CEILING_DIRECTORIES=$work git -C "$tree" apply "$@"
}

head_of() {
    local key=$1 patch
    shift
    for patch in "$@"; do sed -n "/^--- /q; s/^$key: //p" "$patch"; done
}

# CRATE ARGUMENT…: one of tests/, or `lib` for the tests beside the code
in_tree() {
    (
        cd "$tree"
        local target=(--test "$1")
        [ "$1" != lib ] || target=(--lib)
        # Only where they belong: the program refuses settings that it does not know.
        if [ "$1" = simulation ]; then export LOMS_FIRST_SEED=$SEED_FIRST LOMS_SEEDS=$SEEDS_MAX; fi
        cargo nextest run "${target[@]}" "${@:2}" </dev/null
    )
}

# What fails without any bug says nothing of one.
require_that_all_pass() {
    local crate test filter
    for crate in $(head_of test "${patches[@]}" | cut -d ' ' -f 1 | sort -u); do
        filter=none\(\)
        for test in $(head_of test "${patches[@]}" | sed -n "s/^$crate //p" | sort -u); do
            filter+=" | test(=$test)"
        done
        if ! in_tree "$crate" -E "$filter" --no-fail-fast >"$log/none.txt" 2>&1; then
            grep -E '^ *(FAIL|TIMEOUT|SIG[A-Z]+) \[|^error' "$log/none.txt" | sort -u >&2
            echo "without any bug these fail already; target/mutants/log/none.txt has what they said" >&2
            exit 70
        fi
    done
}

# CRATE TEST PATTERN OUTPUT: does the test fail by what it asserts? Sets `verdict` and `said`.
run_test() {
    local status=0
    said=
    if ! in_tree "$1" --no-run >"$4" 2>&1; then
        verdict="DOES NOT BUILD"
        return
    fi
    in_tree "$1" -E "test(=$2)" --no-capture >"$4" 2>&1 || status=$?
    if grep -q '^skipped: ' "$4"; then
        verdict="NOT tried: the test was $(grep -m 1 '^skipped: ' "$4")"
        return
    fi
    if [ "$status" -ne "$TESTS_FAILED" ] || ! grep -Eq '^ *FAIL \[' "$4"; then
        verdict="NOT caught, status $status"
        return
    fi
    # The lines after the place of a panic are its message.
    said=$(grep -A 3 'panicked at ' "$4" | sed -n '/panicked at /d; /^stack backtrace/q; /^note: /q; p' |
        tr -s '\n ' ' ' | grep -E -- "$3" || true)
    said=${said:0:$SAID_CHARS_MAX}
    verdict=caught
    [ -n "$said" ] || verdict="FAILED OTHERWISE"
}

# PATCH: plants it, runs its test, takes it out again, and keeps what came of it.
try() {
    local name verdict said crate test pattern
    name=$(basename "$1" .patch)
    read -r crate test < <(head_of test "$1")
    pattern=$(head_of says "$1")
    patch_tree "$1"
    run_test "$crate" "$test" "${pattern:-.}" "$log/$name.txt"
    patch_tree --reverse "$1"
    [ "$verdict" = caught ] || missed=$((missed + 1))
    echo "    $verdict${said:+: $said}"
    printf '| %s | %s | `%s` | %s | %s |\n' "$name" "$(head -n 1 "$1")" "$test" "$verdict" "${said//|/\\|}" >>"$table"
}

patches=()
[ $# -gt 0 ] || set -- ""
for part in "$@"; do
    found=("$PWD"/tests/mutants/*"$part"*.patch)
    if [ ! -f "${found[0]}" ]; then
        echo "no mutant has $part in its name" >&2
        exit 64
    fi
    patches+=("${found[@]}")
done

mkdir -p "$work"
tests/take-over-dependencies "$CARGO_TARGET_DIR"
copy_tree
for patch in "${patches[@]}"; do
    if ! patch_tree --check "$patch"; then
        echo "$patch does not apply any more" >&2
        exit 65
    fi
done
echo "first none at all: ${#patches[@]} mutants' tests must pass without a bug"
require_that_all_pass
printf '| mutant | the bug | the test | | what it said |\n| --- | --- | --- | --- | --- |\n' >"$table"
missed=0
for at in "${!patches[@]}"; do
    echo "$((at + 1)) of ${#patches[@]}: $(basename "${patches[at]}" .patch)"
    try "${patches[at]}"
done
cat "$table"
echo "caught: $((${#patches[@]} - missed)) of ${#patches[@]}; target/mutants/log/ has what each test said"
[ "$missed" -eq 0 ]
