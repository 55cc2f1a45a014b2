Feature: A task and its stream
  A developer submits work, watches it stream, looks again later, or changes their mind.

  Background:
    Given a cluster with the default model on the CPU

  @ORCH-2001 @ORCH-2002
  Scenario: A task is admitted, streams in order and ends once
    When a task "Name three colours." of at most 12 tokens is submitted
    Then it is admitted with a place in the queue
    And its stream is "started", then tokens, then one "end"
    And the tokens are numbered without a gap from 0

  @ORCH-2003
  Scenario: A cancelled task ends with one typed error
    When a task "Write a very long story." of at most 1000 tokens is submitted
    And 3 events of its stream are read
    And the task is cancelled
    Then the rest of its stream ends in "error" with code "CANCELED"
    And no slot is in use soon after

  @OC-JOB-J4
  Scenario: A reader who comes back misses nothing and sees nothing twice
    When a task "Count from one to ten." of at most 16 tokens is submitted
    And its stream is read to the end
    And the stream is read again after event 5
    Then the second reading is what followed event 5 in the first

  Scenario: The same request gives the same answer
    When the chat "Name three colours." is asked twice with temperature 1 and seed 11
    Then both answers are equal

  Scenario: A greedy answer and one by seed differ in nothing but their choice
    When the chat "Name three colours." is asked twice with temperature 0 and seed 5
    Then both answers are equal
