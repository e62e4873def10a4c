# in:  structures/structures.parquet; the structure files of the particles that are shown
# out: report/statistics.html    self-contained page; it needs no images, so it can be requested before there are any


rule statistics:
    input:
        structures=rules.structures.output.table,
    output:
        page=report(
            f"{RESULTS}/report/statistics.html",
            caption="../report/statistics.rst",
            category="Structures",
        ),
    log:
        f"{RESULTS}/logs/statistics/statistics.log",
    benchmark:
        f"{RESULTS}/benchmarks/statistics/statistics.tsv"
    conda:
        ENVIRONMENT
    resources:
        mem_mb=growing(4000),
        runtime=growing(30),
    params:
        **made_from("statistics"),
    shell:
        """
        python -m alloyscope statistics \
            --structures {input.structures:q} \
            --labels {params.labels:q} \
            --out {output.page:q} \
            2>>{log:q}
        """
