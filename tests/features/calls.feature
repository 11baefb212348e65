Feature: Calls by HTTP

  Scenario: What the server answers is the output
    Given a workflow with definition:
    """yaml
    document: { dsl: '1.0.3', namespace: tests, name: calls, version: '1.0.0' }
    do:
      - get:
          call: http
          with: { method: get, endpoint: 'https://petstore.swagger.io/v2/pet/{id}' }
          output: { as: '{ name, id }' }
    """
    And given the workflow input is:
    """yaml
    id: 7
    """
    When the workflow is executed
    Then the workflow should complete with output:
    """yaml
    name: pet 7
    id: 7
    """

  Scenario: A whole answer
    Given a workflow with definition:
    """yaml
    document: { dsl: '1.0.3', namespace: tests, name: calls-response, version: '1.0.0' }
    do:
      - get:
          call: http
          with:
            method: get
            endpoint: https://petstore.swagger.io/v2/pet/findByStatus
            query: { status: available }
            output: response
    """
    When the workflow is executed
    Then the workflow should complete
    And the workflow output should have properties 'statusCode', 'headers', 'request.method', 'request.uri'
    And the workflow output should have a 'content' property containing 2 items
    And the workflow output should have a 'statusCode' property with value:
    """yaml
    200
    """

  Scenario: A description says how
    Given a workflow with definition:
    """yaml
    document: { dsl: '1.0.3', namespace: tests, name: calls-openapi, version: '1.0.0' }
    do:
      - find:
          call: openapi
          with:
            document: { endpoint: 'https://petstore.swagger.io/v2/swagger.json' }
            operationId: getPetById
            parameters: { petId: '${ .id }' }
          output: { as: .name }
    """
    And given the workflow input is:
    """yaml
    id: 3
    """
    When the workflow is executed
    Then the workflow should complete with output:
    """yaml
    pet 3
    """
