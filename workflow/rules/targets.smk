"""Targets of the stages of dvc.yaml: one per phase of each task.

A target also makes the folder that its stage records, which is empty where a task has no studies or
does not run a method.
"""

from vbon.planning.phases import check_recording, targets

check_recording(PLAN)

for name, (files, folder) in targets(PLAN, DRAWING).items():

    rule:
        """One phase of one task."""
        name:
            name
        input:
            files,
        localrule: True
        params:
            folder=folder,
        shell:
            "mkdir -p {params.folder:q}"
