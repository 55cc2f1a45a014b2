#include "orchestratord/core/effects.h"

#include <type_traits>
#include <utility>

namespace orch::gateway {

static_assert(std::is_nothrow_move_constructible_v<EffectKinds> && std::is_nothrow_move_assignable_v<EffectKinds>);

Effect::Effect(const Effect& other) = default;
Effect::Effect(Effect&& other) noexcept = default;
Effect& Effect::operator=(const Effect& other) = default;
Effect& Effect::operator=(Effect&& other) noexcept = default;
Effect::~Effect() = default;

}  // namespace orch::gateway
