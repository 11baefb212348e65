Feature: Which task comes next

  Scenario: Cases, and a way back
    Given a workflow with definition:
    """yaml
    document: { dsl: '1.0.3', namespace: tests, name: flow, version: '1.0.0' }
    do:
      - count:
          set: { n: '${ (.n // 0) + 1 }' }
      - enough:
          switch:
            - no: { when: .n < 3, then: count }
            - yes: { then: tell }
      - skipped:
          set: { n: never }
      - tell:
          set: { turns: '${ .n }' }
          then: end
      - unreached:
          set: { n: never }
    """
    When the workflow is executed
    Then the workflow should complete with output:
    """yaml
    turns: 3
    """
    And count should run first
    And tell should run last

  Scenario: Leaving an inner list
    Given a workflow with definition:
    """yaml
    document: { dsl: '1.0.3', namespace: tests, name: flow-exit, version: '1.0.0' }
    do:
      - inner:
          do:
            - a:
                set: { at: a }
                then: exit
            - b:
                set: { at: b }
      - after:
          set: { was: '${ .at }' }
    """
    When the workflow is executed
    Then the workflow should complete with output:
    """yaml
    was: a
    """
    And after should run after a

  Scenario: Items, as long as a condition holds
    Given a workflow with definition:
    """yaml
    document: { dsl: '1.0.3', namespace: tests, name: flow-for, version: '1.0.0' }
    do:
      - sum:
          for: { each: amount, in: .amounts, at: i }
          while: (.sum // 0) < 10
          do:
            - add:
                set:
                  amounts: ${ .amounts }
                  sum: ${ (.sum // 0) + $amount + $i }
    """
    And given the workflow input is:
    """yaml
    amounts: [ 4, 6, 8, 10 ]
    """
    When the workflow is executed
    Then the workflow should complete with output:
    """yaml
    amounts: [ 4, 6, 8, 10 ]
    sum: 11
    """

  Scenario: Branches that all count
    Given a workflow with definition:
    """yaml
    document: { dsl: '1.0.3', namespace: tests, name: flow-fork, version: '1.0.0' }
    do:
      - both:
          fork:
            branches:
              - left: { set: { side: left } }
              - right:
                  do:
                    - rest: { wait: { milliseconds: 20 } }
                    - done: { set: { side: right } }
    """
    When the workflow is executed
    Then the workflow should complete with output:
    """yaml
    - side: left
    - side: right
    """

  Scenario: The quickest branch wins
    Given a workflow with definition:
    """yaml
    document: { dsl: '1.0.3', namespace: tests, name: flow-race, version: '1.0.0' }
    do:
      - race:
          fork:
            compete: true
            branches:
              - slow: { wait: { hours: 1 } }
              - quick: { set: { won: quick } }
    """
    When the workflow is executed
    Then the workflow should complete with output:
    """yaml
    won: quick
    """
    And slow should cancel
    And quick should complete
