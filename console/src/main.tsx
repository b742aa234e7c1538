import { render } from "preact";

import { restore } from "./chat/state";
import { App } from "./shell/app";
import "./shell/theme";
import "./styles/base.css";
import "./styles/shell.css";
import "./styles/chat.css";
import "./styles/panels.css";

render(<App />, document.getElementById("app")!);
void restore();
