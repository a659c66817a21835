#!/bin/sh
# Runs a stage: `sh stages/run.sh train --task binary`. With the Python that runs DVC, also where the environment is not
# activated (cron, an IDE, `.venv/bin/dvc repro`); where DVC has an environment of its own, with the one that has our
# packages.
parent() { # the first word of the command that runs DVC: the shell that it starts has most often become this one
    if [ -r "/proc/$1/cmdline" ]; then
        tr '\0' '\n' < "/proc/$1/cmdline" | head -n 1
    else
        ps -o comm= -p "$1" 2> /dev/null
    fi
}
fits() {
    "$1" -c 'import importlib.util as i, sys; sys.exit(not all(map(i.find_spec, ("cv2", "keras", "pydantic"))))' \
        2> /dev/null
}
grandparent=$(ps -o ppid= -p "$PPID" 2> /dev/null | tr -d ' ')
for python in "$(parent "$PPID")" "$(parent "${grandparent:-0}")" python python3 .venv/bin/python; do
    case ${python##*/} in python*) fits "$python" && exec "$python" -m biopsy.core.stage "$@" ;; esac
done
echo "error: no Python with this project's packages was found. Activate the environment (. .venv/bin/activate)." >&2
exit 5
