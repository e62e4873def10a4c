# in:  the manifests of the md chunks that this imaging chunk covers; potential/AgCo-orleans.eam.fs; sections `particles` and
#      `md`
# out: descriptors/chunk-000042.json       manifest, written last
#      descriptors/chunk-000042.parquet    one row per planned particle, independent of labels and splits


rule describe:
    input:
        lambda wildcards: manifests(SOURCE, chunks.md_chunks_of(int(wildcards.chunk), CAMPAIGN)),
        potential=rules.potential.output.table,
    output:
        manifest=f"{RESULTS}/descriptors/chunk-{{chunk}}.json",
    log:
        f"{RESULTS}/logs/describe/chunk-{{chunk}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/describe/chunk-{{chunk}}.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(costs.job_minutes("describe", CAMPAIGN)),
    params:
        **made_from("describe"),
        md_chunks=lambda wildcards: list(chunks.md_chunks_of(int(wildcards.chunk), CAMPAIGN)),
        structures=f"{RESULTS}/structures",
        capacity=chunks.imaging_capacity(CAMPAIGN),
    shell:
        """
        python -m alloyscope describe \
            --chunk {wildcards.chunk} \
            --md-chunks {params.md_chunks} \
            --structures {params.structures:q} \
            --capacity {params.capacity} \
            --seed {params.seed} \
            --particles {params.particles:q} \
            --md {params.md:q} \
            --potential-set {params.potential_set:q} \
            --potential {input.potential:q} \
            --manifest {output.manifest:q} \
            2>>{log:q}
        """
