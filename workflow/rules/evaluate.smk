# in:  hrtem/dataset.json; training/<task>/<run>/run.json and the best.ckpt beside it
# out: evaluation/<task>/<run>/metrics.json           scores on the test split with their intervals and baselines
#      evaluation/<task>/<run>/predictions.parquet    one row per test image


rule evaluate:
    input:
        dataset=rules.dataset.output.dataset,
        run=rules.train.output.run,
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
        checkpoint=f"{RESULTS}/training/{{task}}/{{run}}/best.ckpt",
        folder=f"{RESULTS}/evaluation/{{task}}/{{run}}",
    shell:
        """
        python -m alloyscope evaluate \
            --task {wildcards.task} \
            --dataset {input.dataset:q} \
            --checkpoint {params.checkpoint:q} \
            --device {resources.device} \
            --out {params.folder:q} \
            2>>{log:q}
        """
