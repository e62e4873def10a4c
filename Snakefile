# The whole campaign, stage by stage:
#
#   potential ─► plan ─► md or files (chunks) ─► describe (chunks) ─► structures ─► hrtem (chunks) ─► gates ─► dataset
#   ─► train ─► evaluate ─► report
#
# snakemake --profile profiles/local --configfile workflow/campaigns/demo.yaml     a small campaign on this machine
# snakemake --profile slurm                                                        the campaign of config.yaml
#
# A job makes one chunk of particles and declares one manifest; the data lie beside it (docs/running-on-a-cluster.md).
from snakemake.utils import min_version

min_version("9.20")


configfile: "config.yaml"


report: "workflow/report/workflow.rst"


include: "workflow/rules/common.smk"


wildcard_constraints:
    chunk=r"\d{6}",
    task="|".join(CAMPAIGN.training.tasks),
    run="|".join(name for task in CAMPAIGN.training.tasks for name in CAMPAIGN.training.tests_of(task)),


include: "workflow/rules/potential.smk"
include: "workflow/rules/plan.smk"
include: f"workflow/rules/{SOURCE}.smk"
include: "workflow/rules/describe.smk"
include: "workflow/rules/structures.smk"
include: "workflow/rules/statistics.smk"
include: "workflow/rules/film.smk"
include: "workflow/rules/hrtem.smk"
include: "workflow/rules/gates.smk"
include: "workflow/rules/dataset.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/report.smk"


# Write the file that `alloyscope status` reads, before any job runs.
onstart:
    from alloyscope.campaign.folder import write_campaign

    write_campaign(Path(RESULTS, "plan", "campaign.json"), CAMPAIGN)


# Print the failed jobs with their own errors, after the messages of Snakemake and the cluster.
onerror:
    shell("python -m alloyscope status {RESULTS:q} >&2 2>/dev/null || true")


localrules:
    all,


rule all:
    default_target: True
    input:
        rules.plan.output.particles,
        # The manifests are listed because Snakemake does not notice a missing file that only finished jobs have read.
        manifests(SOURCE, chunks.md_chunks(CAMPAIGN)),
        manifests("describe", chunks.imaging_chunks(CAMPAIGN)),
        manifests("hrtem", chunks.imaging_chunks(CAMPAIGN)),
        rules.dataset.output,
        rules.statistics.output.page,
        rules.report.output.page,
