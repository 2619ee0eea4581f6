"""`python …/autocron_web/pool/__main__.py monitor|worker …`: how the processes of a pool begin.

Started by path, not by module name, so that it works whatever put autocron_web on the app's path.
"""

import os
import sys


def main() -> None:
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    if root not in sys.path:
        sys.path.insert(0, root)
    role = sys.argv[1]
    if role == "monitor":
        from autocron_web.pool.monitor import main as run
    else:
        from autocron_web.pool.worker import main as run
    run(sys.argv[2:])


if __name__ == "__main__":
    main()
