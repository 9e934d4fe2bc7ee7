"""Many small runs on one data set: images and captions made once, trained in the same process.

What is trained is what `tijepa train` trains, built from a `RunConfig` by `tijepa.training`; only
the way of images and captions into a batch is shorter.

    job         one run as plain values, its configuration
    held        images and tokens in memory-mapped files,
and batches of them
    scenes      the embedded scenes as such files
    training    a run: steps, then an embedder that is calibrated as in training
    recall      recall at 1 by the default energy
    journal     finished runs, so that an interrupted benchmark goes on
    runner      jobs on processes of one thread each
    contest     objectives against each other: rates tuned on validation, then seeds on test
    options     the command line that all such scripts share
"""
