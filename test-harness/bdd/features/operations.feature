Feature: Restarts under load
  Processes die; clients notice as little as can be.

  @OC-MIGR-M2
  Scenario: A worker is killed in the middle of an answer
    Given a cluster with the default model on the CPU
    When a task "Once upon a time, in a land by the sea," of at most 200 tokens is submitted
    And 20 events of its stream are read
    And the worker is killed
    Then the rest of its stream ends in "end"
    And the text is the one of an undisturbed run

  @OC-LEASE-L8
  Scenario: A pool manager is killed while a worker streams
    Given a cluster with the default model on the CPU
    When a task "Once upon a time, in a land by the sea," of at most 300 tokens is submitted
    And 10 events of its stream are read
    And "pool-managerd" is killed and started again
    Then the rest of its stream ends in "end"
    And the worker is the one from before

  Scenario: A gateway is told to end and lets its streams end first
    Given a cluster with the default model on the CPU
    When a task "Name three colours." of at most 40 tokens is submitted
    And 3 events of its stream are read
    And "orchestratord" is asked to end
    Then the rest of its stream ends in "end"
    And "orchestratord" has ended with status 0
