# in:  the manifests of the md chunks, all or the first that `dataset.min_chunks` asks for
# out: structures/structures.parquet    labels and descriptors, one row per particle


rule structures:
    input:
        manifests("structures", plan.needed_md_chunks(CAMPAIGN)),
    output:
        table=report(
            f"{RESULTS}/structures/structures.parquet",
            caption="../report/structures.rst",
            category="Structures",
        ),
    log:
        f"{RESULTS}/logs/structures/structures.log",
    benchmark:
        f"{RESULTS}/benchmarks/structures/structures.tsv"
    conda:
        ENVIRONMENT
    resources:
        mem_mb=8000,
        runtime=120,
    params:
        folder=lambda wildcards, output: Path(output.table).parent,
        chunks=len(plan.needed_md_chunks(CAMPAIGN)),
        seed=SEED,
        particles=section("particles"),
        splits=section("splits"),
        labels=section("labels"),
        recipe=plan.RECIPES["structures"],
    shell:
        """
        python -m alloyscope structures \
            --structures {params.folder:q} \
            --chunks {params.chunks} \
            --seed {params.seed} \
            --particles {params.particles:q} \
            --splits {params.splits:q} \
            --labels {params.labels:q} \
            --out {output.table:q} \
            2>{log:q}
        """
