// KindOf<Variant>: a type that is one of a variant's alternatives.
#pragma once

#include <type_traits>
#include <variant>

namespace orch {

namespace kind_of_detail {
template <typename Kind, typename Variant>
inline constexpr bool kIsOne = false;
template <typename Kind, typename... Kinds>
inline constexpr bool kIsOne<Kind, std::variant<Kinds...>> = (std::is_same_v<Kind, Kinds> || ...);
}  // namespace kind_of_detail

template <typename Kind, typename Variant>
concept KindOf = kind_of_detail::kIsOne<std::remove_cvref_t<Kind>, Variant>;

}  // namespace orch
