"""Processes that take only what all others leave of the processors, as if they had a machine of their own."""

import os
import pathlib
import subprocess
import time

END_SECONDS_MAX = 10


class IdleGroup:
    """An idle priority is not enough: the kernel shares the processors among sessions first (`sched_autogroup_enabled`), and
    then within each by priority, so that whatever is idle in one session stands in the way of another, PostgreSQL's say. Only a
    control group is idle to all. To make one takes root; without it, the priority is all there is, and is said.
    """

    def __init__(self):
        self.folder = None
        for root in ("/sys/fs/cgroup/cpu", "/sys/fs/cgroup"):
            folder = pathlib.Path(root) / f"loms-load-{os.getpid()}"
            try:
                folder.mkdir()
            except OSError:
                continue
            try:
                # Never made here: where it is missing, this is no control group that could be idle.
                with open(folder / "cpu.idle", "r+") as idle:
                    idle.write("1")
                self.folder = folder
                return
            except OSError:
                folder.rmdir()
        print("no control group can be made: what is to be idle has the idle priority only", flush=True)

    def command(self, *command):
        if not self.folder:
            return ["chrt", "--idle", "0", *command]
        return ["sh", "-c", f'echo $$ >{self.folder}/cgroup.procs && exec "$@"', "sh", *command]

    def take(self, process_id):
        if self.folder:
            (self.folder / "cgroup.procs").write_text(str(process_id))
        else:
            subprocess.run(["chrt", "--all-tasks", "--idle", "--pid", "0", str(process_id)], check=True)

    def end(self):
        """When all that it was given were told to end."""
        deadline = time.monotonic() + END_SECONDS_MAX
        while self.folder and time.monotonic() < deadline:
            try:
                self.folder.rmdir()
                return
            except OSError:
                time.sleep(0.1)
