# in:  the structure files of section `particles`, in place of md; the chunk's range of frames
# out: structures/chunk-000042.json      manifest, written last
#      structures/chunk-000042.extxyz    the chunk's particles (listed in the manifest)

from glob import has_magic


rule files:
    input:
        [name for name in CAMPAIGN.particles.files if not has_magic(name)],
    output:
        manifest=f"{RESULTS}/structures/chunk-{{chunk}}.json",
    log:
        f"{RESULTS}/logs/files/chunk-{{chunk}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/files/chunk-{{chunk}}.tsv"
    conda:
        ENVIRONMENT
    resources:
        mem_mb=growing(2000),
        runtime=growing(60),
    params:
        **made_from("files"),
        first=lambda wildcards: chunks.md_chunk(int(wildcards.chunk), CAMPAIGN).first,
        particles_here=lambda wildcards: chunks.md_chunk(int(wildcards.chunk), CAMPAIGN).count,
    shell:
        """
        python -m alloyscope files \
            --chunk {wildcards.chunk} \
            --first {params.first} \
            --count {params.particles_here} \
            --particles {params.particles:q} \
            --min-cluster-fraction {params.min_cluster_fraction} \
            --manifest {output.manifest:q} \
            2>>{log:q}
        """
