// What the machine's driver knows.
#include "launch.h"
#include "ops_cuda.h"

namespace cocogs {

std::pair<int, int> cuda_versions() {
  int runtime = 0, driver = 0;
  check(cudaRuntimeGetVersion(&runtime), "read the version of its runtime");
  check(cudaDriverGetVersion(&driver), "read the version of the driver");
  return {runtime, driver};
}

}  // namespace cocogs
