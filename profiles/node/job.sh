#!/bin/bash
# The campaign inside one whole-node allocation, for centres that hand out nodes. From the top of the checkout:
#
#   sbatch profiles/node/job.sh                                                 the campaign of config.yaml
#   sbatch profiles/node/job.sh --configfile workflow/campaigns/minimal.yaml    any of snakemake's options
#
# Longer than one job may last: submit it several times, SLURM runs one after the other and each goes on where the last
# one stopped. No other snakemake may work in this folder meanwhile. Options given to sbatch override these:
#SBATCH --job-name=alloyscope
#SBATCH --dependency=singleton
#SBATCH --partition=gpu
#SBATCH --gres=gpu:1
#SBATCH --nodes=1
#SBATCH --exclusive
#SBATCH --mem=0
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --output=alloyscope-%j.log
#SBATCH --open-mode=append
# ten minutes before the end Snakemake is told to start nothing more; what still runs at the end goes on in the next job
#SBATCH --signal=B:TERM@600

# your centre's modules, if the environment needs any:  module load …
[ -f .venv/bin/activate ] && source .venv/bin/activate
export OMP_NUM_THREADS=1
# there while a job of this file works here: found at the start, the last one was ended, and Snakemake's lock is its own
mark=.snakemake/node-job
[ ! -e "$mark" ] || snakemake --profile profiles/node --unlock "$@"
mkdir -p .snakemake && touch "$mark"
snakemake --profile profiles/node "$@" &
trap 'kill -TERM $!' TERM
wait $! || wait $!  # once more after the signal
code=$?
rm -f "$mark"
exit $code
