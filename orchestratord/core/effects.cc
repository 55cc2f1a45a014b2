#include "orchestratord/core/effects.h"

template struct orch::OneOf<orch::gateway::EffectKinds>;
