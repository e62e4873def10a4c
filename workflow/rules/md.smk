# in:  potential/AgCo-orleans.eam.fs; sections `particles` and `md`; the chunk's range of particles
# out: structures/chunk-000042.json      manifest, written last
#      structures/chunk-000042.extxyz    the chunk's particles at 300 K (listed in the manifest)


rule md:
    input:
        potential=rules.potential.output.table,
    output:
        manifest=f"{RESULTS}/structures/chunk-{{chunk}}.json",
    log:
        f"{RESULTS}/logs/md/chunk-{{chunk}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/md/chunk-{{chunk}}.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=lambda wildcards, threads, attempt: attempt * (1000 + 250 * threads),
        runtime=lambda wildcards, threads, attempt: attempt * costs.job_minutes("md", CAMPAIGN, threads),
        wall_limit_s=f"{CAMPAIGN.wall_limit_s:g}",  # a resource, because Snakemake does not compare resources
    params:
        **made_from("md"),
        first=lambda wildcards: chunks.md_chunk(int(wildcards.chunk), CAMPAIGN).first,
        particles_here=lambda wildcards: chunks.md_chunk(int(wildcards.chunk), CAMPAIGN).count,
    shell:
        """
        python -m alloyscope md \
            --chunk {wildcards.chunk} \
            --first {params.first} \
            --count {params.particles_here} \
            --seed {params.seed} \
            --particles {params.particles:q} \
            --md {params.md:q} \
            --potential-set {params.potential_set:q} \
            --potential {input.potential:q} \
            --workers {threads} \
            --wall-limit-s {resources.wall_limit_s} \
            --manifest {output.manifest:q} \
            2>>{log:q}
        """
