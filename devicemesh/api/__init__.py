"""HTTP: the routes of docs/http.md, and the page in the browser that asks them."""
