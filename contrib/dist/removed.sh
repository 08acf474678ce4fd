#!/bin/sh
# prerm of the .deb ("remove") and %preun of the .rpm (0 is left): containers are not touched.
set -e
if { [ "${1:-}" = remove ] || [ "${1:-}" = 0 ]; } && [ -n "$(ls -A /run/davit 2>/dev/null)" ]; then
    echo "davit: containers keep running, and their state stays in /run/davit. Without davit they cannot be stopped or"
    echo "davit: deleted by their engine: install it again for that."
fi
