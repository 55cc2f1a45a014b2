// OneOf<Variant>: a variant of many kinds whose copies, moves and destruction are compiled once, not by whoever names
// it; for variants of thirty kinds they took half of the compile time of a test. Its header says
// `extern template struct OneOf<Kinds>;` and one source says `template struct OneOf<Kinds>;`, both in namespace orch.
// It is read like the variant: std::visit, std::get_if, std::holds_alternative.
#pragma once

#include <type_traits>
#include <utility>
#include <variant>

namespace orch {

namespace one_of_detail {
template <typename Kind, typename Variant>
inline constexpr bool kIsKind = false;
template <typename Kind, typename... Kinds>
inline constexpr bool kIsKind<Kind, std::variant<Kinds...>> = (std::is_same_v<Kind, Kinds> || ...);
}  // namespace one_of_detail

template <typename Kind, typename Variant>
concept KindOf = one_of_detail::kIsKind<std::remove_cvref_t<Kind>, Variant>;

template <typename Variant>
struct OneOf : Variant {
  template <KindOf<Variant> Kind>
  OneOf(Kind&& kind) : Variant(std::in_place_type<std::remove_cvref_t<Kind>>, std::forward<Kind>(kind)) {}
  OneOf(const OneOf& other);
  OneOf(OneOf&& other) noexcept;
  OneOf& operator=(const OneOf& other);
  OneOf& operator=(OneOf&& other) noexcept;
  ~OneOf();
};

template <typename Variant>
OneOf<Variant>::OneOf(const OneOf& other) = default;
template <typename Variant>
OneOf<Variant>::OneOf(OneOf&& other) noexcept : Variant(static_cast<Variant&&>(other)) {
  static_assert(std::is_nothrow_move_constructible_v<Variant> && std::is_nothrow_move_assignable_v<Variant>);
}
template <typename Variant>
OneOf<Variant>& OneOf<Variant>::operator=(const OneOf& other) = default;
template <typename Variant>
OneOf<Variant>& OneOf<Variant>::operator=(OneOf&& other) noexcept = default;
template <typename Variant>
OneOf<Variant>::~OneOf() = default;

}  // namespace orch
