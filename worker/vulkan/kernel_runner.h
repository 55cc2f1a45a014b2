// Runs one kernel on plain words, for tests: inputs go into buffers, what it wrote comes back. Test code only.
#pragma once

#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <vector>

#include "worker/vulkan/kernel_device.h"
#include "worker/vulkan/step_layout.h"
#include "worker/vulkan/test_device.h"

namespace orch::worker::vulkan {

using Words = std::vector<std::uint32_t>;

inline Words words_of(std::span<const float> floats) {
  Words words(floats.size());
  if (!floats.empty()) std::memcpy(words.data(), floats.data(), floats.size_bytes());
  return words;
}

struct KernelInput {
  Words words;
  enum class View : std::uint8_t { words, texels } view = View::words;
};

struct KernelCall {
  Kernel kernel = Kernel::probe;
  std::vector<std::uint32_t> constants;
  std::array<KernelInput, kReadBindings> reads;         // [0] is the step
  std::array<Words, kWriteBindings> writes;             // contents before; their size is the buffer's
  std::array<int, kWriteBindings> aliases{-1, -1, -1};  // >= 0: the write binding is that read binding's buffer
  std::vector<std::uint32_t> push;
  GroupCount groups;
};

inline std::unique_ptr<KernelDevice> open_test_device(Validation validation = Validation::off) {
  KernelDeviceOptions options;
  options.device = software_allowed();
  options.validation = validation;
  auto made = KernelDevice::Create(options);
  if (!made.ok()) ADD_FAILURE() << made.error().message;
  return made.ok() ? std::move(made).value() : nullptr;
}

template <typename T>
T must(Result<T, VulkanError> result) {
  if (!result.ok()) {
    std::fprintf(stderr, "%s\n", result.error().message.c_str());
    std::abort();
  }
  return std::move(result).value();
}

inline std::array<Words, kWriteBindings> run_kernel(KernelDevice& device, const KernelCall& call) {
  std::vector<std::unique_ptr<DeviceBuffer>> buffers;
  std::array<DeviceBuffer*, kReadBindings> read_buffers{};
  Bindings bindings;
  const auto make = [&](const Words& words) {
    auto buffer = must(device.make_buffer(MemoryUse::device, "a test buffer", words.size() * sizeof(std::uint32_t)));
    must(device.write(*buffer, 0, std::as_bytes(std::span(words))));
    buffers.push_back(std::move(buffer));
    return buffers.back().get();
  };
  for (std::size_t i = 0; i < kReadBindings; ++i) {
    if (call.reads[i].words.empty()) continue;
    read_buffers[i] = make(call.reads[i].words);
    bindings.reads[i] =
        call.reads[i].view == KernelInput::View::texels ? read_buffers[i]->texels() : read_buffers[i]->words();
  }
  std::array<DeviceBuffer*, kWriteBindings> write_buffers{};
  for (std::size_t i = 0; i < kWriteBindings; ++i) {
    if (call.aliases[i] >= 0)
      write_buffers[i] = read_buffers[static_cast<std::size_t>(call.aliases[i])];
    else if (!call.writes[i].empty())
      write_buffers[i] = make(call.writes[i]);
    if (write_buffers[i] != nullptr) bindings.writes[i] = write_buffers[i]->handle();
  }
  const auto* pipeline = must(device.pipeline({call.kernel, call.constants}));
  auto recorder = must(device.make_recorder());
  must(recorder->begin());
  recorder->dispatch({pipeline, must(device.bind(bindings)), std::as_bytes(std::span(call.push))}, call.groups);
  recorder->host_barrier();
  must(recorder->end());
  must(device.run(*recorder));
  std::array<Words, kWriteBindings> results;
  for (std::size_t i = 0; i < kWriteBindings; ++i) {
    if (write_buffers[i] == nullptr) continue;
    results[i].resize(write_buffers[i]->size() / sizeof(std::uint32_t));
    must(device.read(*write_buffers[i], 0, std::as_writable_bytes(std::span(results[i]))));
  }
  return results;
}

// A step buffer: rows of {token, position} that all use `pages`; every row is wanted.
inline Words step_words(const std::vector<std::pair<std::uint32_t, std::uint32_t>>& rows, const Words& pages) {
  Words words(kTablesWord, 0);
  words[kRowsCountWord] = static_cast<std::uint32_t>(rows.size());
  words[kWantedCountWord] = static_cast<std::uint32_t>(rows.size());
  for (std::uint32_t i = 0; i < rows.size(); ++i) {
    words[kRowsWord + 4 * i] = rows[i].first;
    words[kRowsWord + 4 * i + 1] = rows[i].second;
    words[kRowsWord + 4 * i + 2] = kTablesWord;
    words[kWantedWord + i] = i;
  }
  words.insert(words.end(), pages.begin(), pages.end());
  words.resize(words.size() + 4, 0);
  return words;
}

}  // namespace orch::worker::vulkan
