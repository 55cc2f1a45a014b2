Feature: More work than there is room for
  Refusals come at once, say why and say when to come back; what was admitted is kept.

  @ORCH-2007
  Scenario: A full queue refuses with a time to come back
    Given a cluster with a slow engine called mock and room for 2 waiting tasks
    When 5 tasks are submitted
    Then 3 are admitted and 2 are refused with status 429 and code "ADMISSION_REJECT"
    And every refusal says when to come back

  Scenario: A deadline that passes while a task waits ends it with its own error
    Given a cluster with a slow engine called mock and room for 2 waiting tasks
    When 1 tasks are submitted
    And a task with a deadline of 600 ms is submitted
    Then its stream ends in "error" with code "DEADLINE_UNMET"

  Scenario Outline: A request that breaks the contract is told which field
    Given a cluster with the default model on the CPU
    When a task is submitted with <field> set to <value>
    Then it is refused with status <status> and code "<code>" naming "<field>"

    Examples:
      | field      | value            | status | code             |
      | priority   | "urgent"         | 400    | INVALID_PARAMS   |
      | max_tokens | -1               | 400    | INVALID_PARAMS   |
      | ctx        | "many"           | 400    | INVALID_PARAMS   |
      | task_id    | "not-a-uuid"     | 400    | INVALID_PARAMS   |
      | surprise   | true             | 400    | INVALID_PARAMS   |
      | model_ref  | "no-such-model"  | 404    | MODEL_NOT_FOUND  |
