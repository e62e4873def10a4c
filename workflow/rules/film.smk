# in:  section `imaging`, key `film`
# out: film/carbon.extxyz    periodic block of amorphous carbon; made only when images show a film
#      film/carbon.json      its checks


rule film:
    output:
        film=f"{RESULTS}/film/carbon.extxyz",
    log:
        f"{RESULTS}/logs/film/film.log",
    benchmark:
        f"{RESULTS}/benchmarks/film/film.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(120),
    params:
        **made_from("film"),
    shell:
        """
        python -m alloyscope film \
            --film {params.film:q} \
            --seed {params.seed} \
            --out {output.film:q} \
            2>>{log:q}
        """


# input of rules whose images show a film
FILM = [rules.film.output.film] if CAMPAIGN.imaging.film.share > 0 else []
