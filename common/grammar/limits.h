// Every bound of structured output in one place (OC-GRAMMAR-1030). Work is counted in steps, never in time, so that a
// constraint is accepted or refused alike on every machine.
#pragma once

#include <cstddef>
#include <cstdint>

namespace orch::grammar {

// The constraint as the client wrote it.
inline constexpr std::size_t kTextBytesMax = 32 * 1024;
inline constexpr std::size_t kJsonDepthMax = 64;         // of the schema's own JSON
inline constexpr std::size_t kPropertiesMax = 512;       // of one object
inline constexpr std::size_t kAlternativesMax = 256;     // of one anyOf, oneOf or type
inline constexpr std::size_t kDisjointStepsMax = 65536;  // of all comparisons between alternatives of oneOf
inline constexpr std::size_t kExpressionDepthMax = 64;   // groups within groups of a regex or GBNF rule
inline constexpr std::size_t kExpressionNodesMax = 32768;
inline constexpr std::uint32_t kRepeatMax = 8192;  // a count in {m,n}, minLength, maxItems, ...

// The network made of it. States and edges are counted while they are made, which bounds memory and time.
inline constexpr std::uint32_t kStatesMax = 65536;
inline constexpr std::uint32_t kEdgesMax = 262144;
inline constexpr std::uint32_t kRulesMax = 8192;

// What runs over it.
inline constexpr std::uint32_t kStackDepthMax = 256;       // calls within calls: the nesting of a document
inline constexpr std::size_t kReadingsMax = 1024;          // of one prefix that are followed
inline constexpr std::uint32_t kClosureStepsMax = 16384;   // to find the readings after one byte
inline constexpr std::size_t kAutomatonStatesMax = 16384;  // kept, before all are forgotten and made again
inline constexpr std::size_t kReadingsKeptMax = 524288;    // of all kept states
inline constexpr std::uint64_t kMaskStepsMax = 4'000'000;  // for one mask; tokens not looked at by then are left out
inline constexpr std::size_t kMasksMax = 256;              // kept per constraint, least recently used last
inline constexpr std::size_t kConstraintsMax = 16;         // compiled ones kept per worker

// Numbers of a document.
inline constexpr int kIntegerDigitsMax = 18;      // fits 64 bits
inline constexpr int kFractionDigitsMax = 16;     // of a number without bounds
inline constexpr int kExponentDigitsMax = 2;      // fits a double
inline constexpr int kSignificantDigitsMax = 15;  // of a bounded number: below them binary64 keeps decimal order
inline constexpr std::uint32_t kIndentMax = 16;   // blanks behind a line break

}  // namespace orch::grammar
