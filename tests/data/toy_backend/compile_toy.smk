

use rule compile_engine as compile_toy with:
    output:
        engine="results/compile/{model}/{backend}/{precision}{variant}/bs{batch}.toy",
        gain="results/compile/{model}/{backend}/{precision}{variant}/bs{batch}.gain",
        sidecar="results/compile/{model}/{backend}/{precision}{variant}/bs{batch}.json",
    wildcard_constraints:
        backend="toy",
