"""GraphQL over HTTP, read strictly: body, document, selection, and the body that is sent on."""
