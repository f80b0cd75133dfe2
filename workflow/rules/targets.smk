"""What the stages of dvc.yaml request: a target for each phase of each task.

A target also makes the folder that its stage records, which is empty where a task has nothing of
that kind: no studies, or a method that it does not run.
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
