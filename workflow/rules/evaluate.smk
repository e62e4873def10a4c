# in:  hrtem/dataset.json; training/<task>/<run>/run.json and the best.ckpt beside it
# out: evaluation/<task>/<run>/metrics.json           scores on the test split with their intervals and baselines
#      evaluation/<task>/<run>/predictions.parquet    one row per test image
#
# A run that is tested on the images of another campaign (`tested_on`) has a further folder, <run>@<campaign>.


rule evaluate:
    input:
        dataset=lambda wildcards: f"{CAMPAIGN.training.tests_of(wildcards.task)[wildcards.run] or RESULTS}/hrtem/dataset.json",
        run=lambda wildcards: rules.train.output.run.format(task=wildcards.task, run=wildcards.run.partition("@")[0]),
    output:
        metrics=report(
            f"{RESULTS}/evaluation/{{task}}/{{run}}/metrics.json",
            caption="../report/evaluation.rst",
            category="Evaluation",
            labels={"task": "{task}", "run": "{run}"},
        ),
        predictions=f"{RESULTS}/evaluation/{{task}}/{{run}}/predictions.parquet",
    log:
        f"{RESULTS}/logs/evaluate/{{task}}-{{run}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/evaluate/{{task}}-{{run}}.tsv"
    priority: 1  # ahead of chunks that the data set does not wait for (dataset.min_chunks)
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=growing(8000),
        runtime=growing(120),
        device=CAMPAIGN.learning_device,  # a resource, because Snakemake does not compare resources
    params:
        **made_from("evaluate"),
        checkpoint=lambda wildcards, input: Path(input.run).with_name("best.ckpt").as_posix(),
        trained_on=f"{RESULTS}/hrtem/dataset.json",
        folder=f"{RESULTS}/evaluation/{{task}}/{{run}}",
    shell:
        """
        python -m alloyscope evaluate \
            --task {wildcards.task} \
            --dataset {input.dataset:q} \
            --trained-on {params.trained_on:q} \
            --checkpoint {params.checkpoint:q} \
            --device {resources.device} \
            --out {params.folder:q} \
            2>>{log:q}
        """
