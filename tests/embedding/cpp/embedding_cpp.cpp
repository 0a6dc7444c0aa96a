#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <algorithm>
#include <cstdint>
#include <stdexcept>
#include <vector>

#include "bpcore.h"

namespace py = pybind11;
using Array = py::array_t<float, py::array::c_style>;

static const bpcore_api *bp;

static void check(int error) {
    if (error != BPCORE_OK) throw std::invalid_argument(bp->error_message(error));
}

/* Train 4-64-64-2 in place, without the GIL; the cost of the last batch. */
static double train(Array params, Array X, Array Y, std::ptrdiff_t batch, std::ptrdiff_t steps, double rate) {
    const std::ptrdiff_t sizes[] = {4, 64, 64, 2};
    const int activations[] = {BPCORE_RELU, BPCORE_RELU, BPCORE_IDENTITY};
    std::vector<std::max_align_t> room(bp->plan_bytes(3) / sizeof(std::max_align_t) + 1);
    check(bp->plan_init_f32(room.data(), room.size() * sizeof(std::max_align_t), 3, sizes, activations,
                       BPCORE_SQUARED_ERROR));
    auto plan = reinterpret_cast<const bpcore_plan *>(room.data());
    const std::ptrdiff_t n = bp->n_parameters(plan), m = X.ndim() == 2 ? X.shape(0) : 0;
    if (params.size() != n || m == 0 || X.shape(1) != 4 || Y.size() != 2 * m || batch < 1 || batch > m)
        throw std::invalid_argument("params, X, Y and batch do not fit");
    std::vector<char> workspace(bp->workspace_bytes(plan));
    std::vector<float> sums(n), mean(n), square(n);
    float *theta = params.mutable_data();
    const float *x = X.data(), *y = Y.data();
    double cost = 0;
    py::gil_scoped_release released;
    for (std::ptrdiff_t step = 1, first = 0; step <= steps; step++) {
        double loss = 0;
        std::fill(sums.begin(), sums.end(), 0.0f);
        check(bp->accumulate_f32(plan, workspace.data(), theta, x + 4 * first, batch, y + 2 * first, nullptr, nullptr,
                                 sums.data(), &loss));
        check(bp->finish_f32(plan, theta, sums.data(), loss, double(batch), 1e-3, sums.data(), &cost));
        check(bp->adam_f32(n, theta, sums.data(), mean.data(), square.data(), rate, 0.9, 0.999, 1e-8, step));
        first = first + 2 * batch > m ? 0 : first + batch;
    }
    return cost;
}

PYBIND11_MODULE(embedding_cpp, module, py::mod_gil_not_used()) {
    bp = bpcore_import();
    if (bp == nullptr) throw py::error_already_set();
    // Without conversions: of those, a copy of params would be trained.
    module.def("train", &train, py::arg("params").noconvert(), py::arg("X").noconvert(), py::arg("Y").noconvert(),
               py::arg("batch"), py::arg("steps"), py::arg("rate"));
}
