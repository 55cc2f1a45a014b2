Feature: What the system says of itself
  Numbers are counted, not claimed, and an answer names what served it.

  Background:
    Given a cluster with the default model on the CPU

  @ORCH-3028
  Scenario: The token counter moves by the tokens that were given
    When the chat "Name three colours." is asked once with at most 9 tokens
    Then the counter "tokens_out_total" has grown by the tokens of the answer

  Scenario: A reply names its accelerator
    When the chat "Name three colours." is asked once with at most 2 tokens
    Then the reply's header "x-orch-accelerator" is "cpu"

  @ORCH-3007
  Scenario: The list of replica sets names the model with its digest
    When the list of replica sets is read
    Then it holds the default model with the digest of its file
