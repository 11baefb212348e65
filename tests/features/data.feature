Feature: What a task is given and gives on
  A task's input and output can be changed on their way, and the context carries what later
  tasks need.

  Scenario: Input, output and context
    Given a workflow with definition:
    """yaml
    document: { dsl: '1.0.3', namespace: tests, name: data, version: '1.0.0' }
    input:
      from: .order
    do:
      - remember:
          set:
            total: ${ .cents / 100 }
          export:
            as: '{ total: .total }'
      - forget:
          set: '${ { nothing: true } }'
      - tell:
          set:
            text: ${ "\($context.total) for \($workflow.input.order.item)" }
          output:
            as: .text
    output:
      as: '{ said: . }'
    """
    And given the workflow input is:
    """yaml
    order: { cents: 6150, item: lamp }
    """
    When the workflow is executed
    Then the workflow should complete with output:
    """yaml
    said: 61.5 for lamp
    """
    And remember should run first
    And tell should run last
    And forget should run after remember

  Scenario: Input that its schema refuses
    Given a workflow with definition:
    """yaml
    document: { dsl: '1.0.3', namespace: tests, name: data-schema, version: '1.0.0' }
    do:
      - strict:
          input:
            schema:
              document: { type: object, required: [ amount ] }
          set: { ok: true }
    """
    When the workflow is executed
    Then the workflow should fault with error:
    """yaml
    type: https://serverlessworkflow.io/spec/1.0.0/errors/validation
    status: 400
    instance: /do/0/strict
    """

  Scenario: A task that is not wanted is passed over
    Given a workflow with definition:
    """yaml
    document: { dsl: '1.0.3', namespace: tests, name: data-if, version: '1.0.0' }
    do:
      - first:
          set: { n: 1 }
      - never:
          if: .n > 1
          set: { n: 100 }
      - last:
          set: { n: '${ .n + 1 }' }
    """
    When the workflow is executed
    Then the workflow should complete with output:
    """yaml
    n: 2
    """
