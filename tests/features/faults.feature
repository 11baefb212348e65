Feature: What goes wrong, and what is done about it

  Scenario: An error that a workflow raises and catches
    Given a workflow with definition:
    """yaml
    document: { dsl: '1.0.3', namespace: tests, name: faults, version: '1.0.0' }
    use:
      errors:
        tooMuch:
          type: https://example.com/errors/too-much
          status: 402
          title: Too much
          detail: ${ "\(.amount) is more than 10" }
    do:
      - guarded:
          try:
            - check:
                if: .amount > 10
                raise: { error: tooMuch }
          catch:
            errors: { with: { type: https://example.com/errors/too-much } }
            as: problem
            do:
              - tell:
                  set: { refused: '${ $problem.detail }', where: '${ $problem.instance }' }
    """
    And given the workflow input is:
    """yaml
    amount: 11
    """
    When the workflow is executed
    Then the workflow should complete with output:
    """yaml
    refused: 11 is more than 10
    where: /do/0/guarded/try/0/check
    """
    And check should fault with error:
    """yaml
    title: Too much
    status: 402
    """

  Scenario: A catch for other errors
    Given a workflow with definition:
    """yaml
    document: { dsl: '1.0.3', namespace: tests, name: faults-other, version: '1.0.0' }
    do:
      - guarded:
          try:
            - break:
                raise:
                  error: { type: https://example.com/errors/one, status: 500 }
          catch:
            errors: { with: { status: 404 } }
    """
    When the workflow is executed
    Then the workflow should fault with error:
    """yaml
    type: https://example.com/errors/one
    status: 500
    instance: /do/0/guarded/try/0/break
    """

  Scenario: Attempts until one succeeds
    Given a workflow with definition:
    """yaml
    document: { dsl: '1.0.3', namespace: tests, name: faults-retry, version: '1.0.0' }
    do:
      - pet:
          try:
            - find:
                call: http
                with: { method: get, endpoint: 'https://petstore.swagger.io/v2/flaky/{name}' }
          catch:
            errors: { with: { type: https://serverlessworkflow.io/spec/1.0.0/errors/communication } }
            retry:
              delay: { milliseconds: 10 }
              backoff: { exponential: {} }
              limit: { attempt: { count: 5 } }
    """
    And given the workflow input is:
    """yaml
    name: rex
    """
    When the workflow is executed
    Then the workflow should complete with output:
    """yaml
    calls: 3
    """

  Scenario: Too slow
    Given a workflow with definition:
    """yaml
    document: { dsl: '1.0.3', namespace: tests, name: faults-slow, version: '1.0.0' }
    do:
      - guarded:
          try:
            - rest:
                timeout: { after: { milliseconds: 30 } }
                wait: { hours: 1 }
          catch:
            errors: { with: { type: https://serverlessworkflow.io/spec/1.0.0/errors/timeout, status: 408 } }
            do:
              - tell: { set: { late: true } }
    """
    When the workflow is executed
    Then the workflow should complete with output:
    """yaml
    late: true
    """
