// Tensors as this project reads them, for a judge outside: repacks each tensor of a GGUF file whose name is given and
// writes its elements to standard output as f32, row by row.
#include <cstdio>
#include <string>
#include <vector>

#include "worker/model/gguf_file.h"
#include "worker/model/repack.h"

namespace {

using namespace orch::worker;  // NOLINT: a tool of one file

int write_tensor(const GgufFile& file, const char* name) {
  const GgufTensor* source = file.find_tensor(name);
  const auto type = source != nullptr ? tensor_type_of(source->type) : std::nullopt;
  if (!type || source->dims.size() != 2) {
    std::fprintf(stderr, "%s: no matrix of a supported type\n", name);
    return 65;
  }
  QTensor tensor;
  tensor.name = name;
  tensor.type = *type;
  tensor.cols = static_cast<std::uint32_t>(source->dims[0]);
  tensor.rows = static_cast<std::uint32_t>(source->dims[1]);
  tensor.layout = TensorLayout::tiled;
  repack(tensor, source->bytes);
  std::vector<float> row(tensor.cols);
  for (std::uint32_t r = 0; r < tensor.rows; ++r) {
    dequantise_row(tensor, r, row.data());
    if (std::fwrite(row.data(), sizeof(float), row.size(), stdout) != row.size()) return 74;
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) {
    std::fprintf(stderr, "usage: dequantise_tool FILE.gguf TENSOR...\n");
    return 64;
  }
  auto file = GgufFile::open(argv[1]);
  if (!file.ok()) {
    std::fprintf(stderr, "%s: %s\n", file.error().field.c_str(), file.error().message.c_str());
    return 65;
  }
  for (int i = 2; i < argc; ++i) {
    if (const int status = write_tensor(*file.value(), argv[i]); status != 0) return status;
  }
  return 0;
}
