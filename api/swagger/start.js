// A file, because the page may run no script that stands in itself. Without a validator nothing leaves this service.
SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#documentation",
  deepLinking: true,
  showExtensions: true,
  validatorUrl: null,
});
