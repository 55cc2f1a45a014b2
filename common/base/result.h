// A value or an error, by value; must be looked at. std::expected is C++23.
#pragma once

#include <utility>
#include <variant>

#include "common/base/check.h"

namespace orch {

template <typename E>
struct Err {
  E error;
};
template <typename E>
Err(E) -> Err<E>;

template <typename T, typename E>
class [[nodiscard]] Result {
 public:
  Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}                 // NOLINT: implicit by intent
  Result(Err<E> failure) : state_(std::in_place_index<1>, std::move(failure.error)) {}  // NOLINT

  bool ok() const { return state_.index() == 0; }
  explicit operator bool() const { return ok(); }

  T& value() & {
    ORCH_CHECK(ok());
    return *std::get_if<0>(&state_);
  }
  const T& value() const& {
    ORCH_CHECK(ok());
    return *std::get_if<0>(&state_);
  }
  T&& value() && {
    ORCH_CHECK(ok());
    return std::move(*std::get_if<0>(&state_));
  }
  E& error() {
    ORCH_CHECK(!ok());
    return *std::get_if<1>(&state_);
  }
  const E& error() const {
    ORCH_CHECK(!ok());
    return *std::get_if<1>(&state_);
  }

  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }
  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }

 private:
  std::variant<T, E> state_;
};

// Success without a value.
struct Ok {};
template <typename E>
using Status = Result<Ok, E>;

}  // namespace orch

// Evaluates `expression` (a Result); on error returns it from the enclosing function, else binds the value to `name`.
#define ORCH_TRY(name, expression)                                    \
  auto name##_result = (expression);                                  \
  if (!name##_result.ok()) return ::orch::Err{name##_result.error()}; \
  auto&& name = name##_result.value()
