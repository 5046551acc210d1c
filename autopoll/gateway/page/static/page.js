// Sends the code of the link `autopoll desk` has opened; without a script it is typed into the form.
"use strict";
const form = document.getElementById("login");
if (form && location.hash.length > 1) {
  form.elements.code.value = decodeURIComponent(location.hash.slice(1));
  history.replaceState(null, "", location.pathname); // out of the history, before anything else
  form.submit();
}
