# in:  hrtem/dataset.json and the images beside it; the settings of one task
# out: training/<task>/<run>/run.json       account of the run, written last
#      training/<task>/<run>/last.ckpt, best.ckpt, metrics.csv    not declared, because Snakemake deletes declared
#      outputs before a rerun, and the training could not resume


rule train:
    input:
        dataset=rules.dataset.output.dataset,
    output:
        run=f"{RESULTS}/training/{{task}}/{{run}}/run.json",
    log:
        f"{RESULTS}/logs/train/{{task}}-{{run}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/train/{{task}}-{{run}}.tsv"
    priority: 1  # before chunks that the image set does not wait for (dataset.min_chunks)
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=growing(8000),
        runtime=growing(480),  # the third attempt asks for a day, which most partitions allow; training resumes
        # resources and not params, because they do not change the result and must not rerun a training
        loader_workers=CAMPAIGN.training.loader_workers,
        device=CAMPAIGN.learning_device,
    params:
        **made_from("train"),
        seed=lambda wildcards: str(CAMPAIGN.training.runs_of(wildcards.task)[wildcards.run].seed),
        folder=f"{RESULTS}/training/{{task}}/{{run}}",
        structures=f"{RESULTS}/structures",  # those of which the image set was made
        species=CAMPAIGN.particles.species,
        settings=lambda wildcards: CAMPAIGN.training.runs_of(wildcards.task)[wildcards.run].settings.as_json(),
    shell:
        """
        python -m alloyscope train \
            --task {wildcards.task} \
            --seed {params.seed} \
            --dataset {input.dataset:q} \
            --settings {params.settings:q} \
            --detector {params.detector:q} \
            --structures {params.structures:q} \
            --species {params.species:q} \
            --loader-workers {resources.loader_workers} \
            --device {resources.device} \
            --out {params.folder:q} \
            2>>{log:q}
        """
