# in:  the tables, scores and checks of every stage
# out: report/index.html     self-contained page
#      report/networks.html  self-contained page on what the networks can tell, with named runs or many particles
#      report/run.html       self-contained page on the run: cost, failures, commands to run a part again
#      report/summary.txt    the main results in a few lines


rule report:
    input:
        rules.potential.output.validation,
        rules.structures.output.table,
        rules.statistics.output.page,
        rules.dataset.output.images,
        [
            f"{RESULTS}/{STAGES['evaluate'].proof.format(task=task, run=test)}"
            for task in CAMPAIGN.training.tasks
            for test in CAMPAIGN.training.tests_of(task)
        ],
    output:
        **({"networks": f"{RESULTS}/report/networks.html"} if shows_networks(CAMPAIGN) else {}),
        page=report(
            f"{RESULTS}/report/index.html",
            caption="../report/report.rst",
            category="Report",
        ),
        run=report(
            f"{RESULTS}/report/run.html",
            caption="../report/run.rst",
            category="Report",
        ),
        summary=f"{RESULTS}/report/summary.txt",
    log:
        f"{RESULTS}/logs/report/report.log",
    benchmark:
        f"{RESULTS}/benchmarks/report/report.tsv"
    conda:
        ENVIRONMENT
    resources:
        mem_mb=growing(4000),
        runtime=growing(30),
    params:
        **made_from("report"),
        folder=lambda wildcards, output: Path(output.page).parents[1],
    shell:
        """
        python -m alloyscope report \
            --folder {params.folder:q} \
            --config {params.config:q} \
            --out {output.page:q} \
            2>>{log:q}
        """
